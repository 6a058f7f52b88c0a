"""Tools of the developers: a headless browser, and the script that makes the pictures of the documentation."""
