"""The published credentials of the sandbox WeChat: good for development, refused in production."""

SANDBOX_APPID = "wx8888888888888888"
SANDBOX_SECRET = "0123456789abcdef0123456789abcdef"
SANDBOX_ORIGINAL_ID = "gh_9df7d78a1234"
SANDBOX_PUSH_TOKEN = "jincaiToken"
SANDBOX_PUSH_AES_KEY = "BFg2s6szxKZesrBpnSORZWN7yiuS9ubOo0WKO1ZpUZw"
DEV_WEBHOOK_SECRET = "whsec_amluY2FpLWRldi1vbmx5LW5vdC1hLXNlY3JldC1rZXk="
