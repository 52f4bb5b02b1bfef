"""The paper's tables: as printed, as measured here, and what printed numbers can mean."""
