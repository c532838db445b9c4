"""The Slicer module's panels and what they work with. The only place that touches slicer, qt, ctk or vtk."""
