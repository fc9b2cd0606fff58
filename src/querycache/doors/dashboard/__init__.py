"""The dashboard: what one serving process and those beside it do, as a page that goes on."""
