"""Pod networks: one plugin interface (`crid.net.plugin`), and the built-in bridge network."""
