"""What the page's server does behind the tabs: models, runs, turns, admission of requests."""
