variable "hosts" {
  type        = list(string)
  description = "the addresses of nodes a, b and c"
}

variable "networks" {
  type        = list(string)
  default     = ["10.0.0.0/8"]
  description = "where clients connect from"
}

variable "parameters" {
  type        = map(string)
  default     = {}
  description = "settings of postgresql.conf for this environment"
}
