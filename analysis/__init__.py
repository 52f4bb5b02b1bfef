"""From records to tables and figures: pandas, matplotlib, scikit-learn."""
