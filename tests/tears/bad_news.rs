//! What is bad news is told, after a second look.
