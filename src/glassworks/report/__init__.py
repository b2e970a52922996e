"""Figures, tables and the self-contained page that show what was measured."""
