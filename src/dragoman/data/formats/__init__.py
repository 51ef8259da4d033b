"""The formats of data sets, each read into rows: named values with the place where they are written."""
