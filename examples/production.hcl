# A cluster on three hosts in two zones with everything that production needs.

cluster "orders" {
  postgres {
    version = 15

    parameters = {
      max_connections            = 300
      shared_buffers             = "8GB"
      effective_cache_size       = "24GB"
      maintenance_work_mem       = "1GB"
      work_mem                   = "32MB"
      checkpoint_timeout         = "15min"
      max_wal_size               = "16GB"
      max_slot_wal_keep_size     = "64GB" # bounds what a lost standby can hold back
      log_min_duration_statement = "500ms"
      log_lock_waits             = true
      shared_preload_libraries   = "pg_stat_statements"

      # Parameters of extensions have a dot in their name.
      "pg_stat_statements.max" = 10000
    }

    hba = [
      "hostssl orders app 10.0.0.0/8 scram-sha-256",
      "host    all    all 10.0.9.0/24 scram-sha-256", # operators
    ]
  }

  node "a" {
    host     = "10.0.0.11"
    zone     = "north"
    data_dir = "/var/lib/postgresql/15/orders"
    tags     = { rack = "n1" }
  }

  node "b" {
    host     = "10.0.0.12"
    zone     = "south"
    data_dir = "/var/lib/postgresql/15/orders"
    tags     = { rack = "s1" }
  }

  # Serves reports: larger sorts, and primary only when the others cannot be.
  node "c" {
    host       = "10.0.0.13"
    zone       = "north"
    priority   = 50
    data_dir   = "/var/lib/postgresql/15/orders"
    parameters = { work_mem = "256MB" }
    tags       = { rack = "n2" }
  }

  replication {
    mode          = "quorum" # an acknowledged write survives the loss of any node
    sync_standbys = 1
  }

  # The loss of the primary is answered without an operator. These are the defaults.
  failover {
    automatic = true
    detect    = "1s" # silence after which the primary is suspected
    lease     = "5s" # a primary that is cut off stops itself within this time
  }

  # Credentials come from the environment or from the platform, never from here.
  repository "main" {
    url = "s3://backups-of-orders/pg?region=eu-north-1"

    encryption {
      key_file = "/etc/ram/backup.key"
    }
  }

  archive {
    repository = "main"
  }

  backup "nightly" {
    repository = "main"
    schedule   = "30 1 * * *"
    timezone   = "Europe/Stockholm"

    keep {
      last = 7
      days = 30
    }

    verify {
      schedule = "0 5 * * 0"
    }
  }
}
