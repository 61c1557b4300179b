# One node on its own disk. It is reached from the compose network alone; where that is not so, give the listener
# a certificate (tls_cert_file, tls_key_file) and VAULT_ADDR an https:// address.
storage "raft" {
  path    = "/vault/file"
  node_id = "vault-1"
}

listener "tcp" {
  address     = "0.0.0.0:8200"
  tls_disable = true
}

api_addr     = "http://vault:8200"
cluster_addr = "http://vault:8201"
ui           = false
