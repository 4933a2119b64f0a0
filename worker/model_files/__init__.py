"""What a model's files hold, whichever model it is: JSON objects, tensors, factors of weights."""
