"""Pictures of explanations: heat over photos and frames, series and texts. No torch."""
