"""HTTP: routes and lifespan."""
