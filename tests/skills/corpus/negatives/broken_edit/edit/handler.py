raise ValueError("half written")
