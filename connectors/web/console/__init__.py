"""The console in a browser: pages made on the server, for cafes and for the operator."""
