"""Values to text: tables, JSON, CSV, Markdown. Nothing is computed here."""
