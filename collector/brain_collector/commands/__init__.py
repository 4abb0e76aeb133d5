"""The commands of `brain-events`: each module is imported when its command runs, so none costs the others a thing."""
