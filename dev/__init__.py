"""What starts servers, runs captcha beside them, measures it, and checks what is deployed."""
