"""What the book is made with: equations beside lines, laws, figures, source pages."""
