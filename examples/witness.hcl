# Two hosts with data and a small third one that only votes. The vote decides
# which side goes on when the two lose sight of each other; without it neither
# could.

cluster "ledger" {
  postgres {
    version = 15

    hba = [
      "host all all 192.0.2.0/24 scram-sha-256",
    ]
  }

  node "a" {
    host = "192.0.2.11"
    zone = "north"
  }

  node "b" {
    host = "192.0.2.12"
    zone = "south"
  }

  # Needs no PostgreSQL and next to no disk; a third zone is the right place.
  node "w" {
    host    = "192.0.2.13"
    zone    = "west"
    witness = true
  }

  # With one standby, commits wait while it is away. mode = "async" would go on.
  replication {
    mode          = "quorum"
    sync_standbys = 1
  }
}
