"""Launcher of the page: `python app.py`. Everything lives in the package `app/`."""

from app.main import main

if __name__ == "__main__":
    main()
