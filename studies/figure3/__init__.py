"""The paper's figure 3 on conditions that are trained here."""
