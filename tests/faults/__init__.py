"""What can go wrong, injected many times and counted; a small part of each sweep stands among the tests."""
