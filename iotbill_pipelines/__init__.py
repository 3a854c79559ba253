"""Month-end close for sellers of IoT connectivity: carrier files in, balanced journals out."""
