"""What the page shows, as HTML: charts, cards, scores, measured results, files."""
