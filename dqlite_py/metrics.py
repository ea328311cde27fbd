"""Every Prometheus series of this program is declared here, under etcd's name where one exists."""
