"""What images and video files are made of, and the library that reads them kept at one door."""
