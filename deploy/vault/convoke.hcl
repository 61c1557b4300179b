# What a service may do: read the platform's secrets. Renewing its own token is in Vault's default policy.
path "secret/data/convoke" {
  capabilities = ["read"]
}
