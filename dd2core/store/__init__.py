"""Everything on disk: files, model folders, training states, the hub, and all file names."""
