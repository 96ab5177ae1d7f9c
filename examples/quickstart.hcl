# Three nodes on this machine, to try ram out:
#
#   ramctrl dev up examples/quickstart.hcl
#
# Every block and attribute that is not here has a default; production.hcl
# shows more of them.

cluster "demo" {
  postgres {
    version = 15 # the major version that is installed

    # postgresql.conf. Change a value and apply again.
    parameters = {
      max_connections = 100
      shared_buffers  = "32MB"
      work_mem        = "8MB"
    }

    # Who may connect, as in pg_hba.conf.
    hba = [
      "host all all 127.0.0.0/8 scram-sha-256",
    ]
  }

  # One of them becomes the primary, the others stream from it.
  node "a" {
    host = "127.0.0.11"
  }

  node "b" {
    host = "127.0.0.12"
  }

  node "c" {
    host = "127.0.0.13"
  }
}
