"""What every room needs and no paper is about: parameters and their ranges, devices, progress, the installation."""
