"""Policies that run in a server elsewhere: one module a wire, and profiles that say what each server is sent."""
