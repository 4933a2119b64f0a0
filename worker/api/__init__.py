"""What a job may ask and what it answers: docs/API.md is made from here."""
