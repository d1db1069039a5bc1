"""Tries every setting of ClickHouse as the profile of captcha's user."""
