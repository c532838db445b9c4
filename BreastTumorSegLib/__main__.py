"""`python -m BreastTumorSegLib` is the command line."""

from BreastTumorSegLib.cli import main

main()
