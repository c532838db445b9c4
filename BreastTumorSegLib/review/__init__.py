"""Reader studies: worklists, scores, corrected masks, and the store that keeps them. Imports no torch."""
