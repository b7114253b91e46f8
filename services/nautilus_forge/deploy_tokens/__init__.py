"""Deploy tokens: a name and a secret for the code and the images of one project or group."""
