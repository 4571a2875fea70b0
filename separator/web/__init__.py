"""Web page for separating recordings (`python -m separator.web`): upload, separate, look at, play and save."""
