"""Tables, figures and the page of a report: draws the results that it is given."""
