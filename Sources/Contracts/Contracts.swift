/// Our name in the requests to other services.
public enum Contracts {}
