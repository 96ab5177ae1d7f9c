# One cluster in several files: what all environments share is here, the nodes are
# in nodes.hcl, and what differs is in variables. Apply it with
#
#   ramctrl apply --var-file examples/split/staging.vars examples/split

cluster "billing" {
  postgres {
    version    = 15
    parameters = merge(local.parameters, var.parameters)

    # One line for each network; the file is read relative to this one.
    hba = concat(
      [for network in var.networks : "host billing app ${network} scram-sha-256"],
      split("\n", trimspace(file("operators.hba"))),
    )
  }
}

locals {
  parameters = {
    max_connections = 200
    log_connections = true
  }
}
