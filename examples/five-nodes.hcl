# Five nodes, made from a list: two may be lost at once without losing a write,
# since two standbys have each commit before it is acknowledged.

variable "version" {
  type        = number
  default     = 15
  description = "major version of PostgreSQL"
}

variable "network" {
  type        = string
  default     = "10.1.0.0/24"
  description = "where the nodes and the clients live"
}

locals {
  first = 11 # node n1 is the eleventh address of the network
}

cluster "warehouse" {
  postgres {
    version = var.version

    parameters = {
      max_connections      = 400
      max_parallel_workers = 8
      shared_buffers       = "4GB"
    }

    hba = [
      for database in ["stock", "orders"] : "host ${database} app ${var.network} scram-sha-256"
    ]
  }

  node "n1" {
    host = cidrhost(var.network, local.first)
    zone = "north"
  }

  node "n2" {
    host = cidrhost(var.network, local.first + 1)
    zone = "north"
  }

  node "n3" {
    host = cidrhost(var.network, local.first + 2)
    zone = "south"
  }

  node "n4" {
    host = cidrhost(var.network, local.first + 3)
    zone = "south"
  }

  # Follows and votes, and never becomes primary.
  node "n5" {
    host     = cidrhost(var.network, local.first + 4)
    zone     = "west"
    priority = 0
  }

  replication {
    sync_standbys = 2
  }
}
