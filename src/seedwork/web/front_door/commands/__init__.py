"""Commands as callers see them: where each stands, its moves as they happen, its cancelling."""
