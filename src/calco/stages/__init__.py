"""One file per step of the pipeline, named as the step."""
