"""How the parts are built out of the configuration and the machine; `crid.daemon` ties them to the use cases."""
