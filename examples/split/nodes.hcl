cluster "billing" {
  node "a" {
    host = var.hosts[0]
    zone = "north"
  }

  node "b" {
    host = var.hosts[1]
    zone = "south"
  }

  node "c" {
    host = var.hosts[2]
    zone = "west"
  }
}
