"""Writers and raters: who answers, and who says which answer is better."""
