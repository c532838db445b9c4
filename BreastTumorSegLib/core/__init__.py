"""What everything else stands on: exam, geometry, errors and progress events. Imports no torch."""
