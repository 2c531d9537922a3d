"""What a network is shown of a clip: augmentations, segments (ATST), masks (AudioMAE), mixtures (uaMix-MAE)."""
