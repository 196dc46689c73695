"""Installs Sluice with the lowest or the highest version of every runtime dependency, and classifies an image."""
