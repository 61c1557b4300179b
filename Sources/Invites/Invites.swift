enum Invites {}
