"""What an operator may set: environment variables with the prefix `JINCAI_`, checked before anything starts."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.crypto import DEV_SECRET_KEYS, Keyring
from app.sandbox.credentials import (
    DEV_WEBHOOK_SECRET,
    SANDBOX_APPID,
    SANDBOX_PUSH_AES_KEY,
    SANDBOX_PUSH_TOKEN,
    SANDBOX_SECRET,
)
from app.standard_webhooks import key_of

WECHAT_API = "https://api.weixin.qq.com"
_RATE = r"^[1-9][0-9]{0,8}/(second|minute|hour|day)$"


class Settings(BaseSettings):
    """All settings with their development defaults; `problems()` says what production still lacks."""

    model_config = SettingsConfigDict(env_prefix="JINCAI_", extra="ignore", hide_input_in_errors=True)

    env: Literal["dev", "prod"] = "dev"
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    public_url: str = ""
    seed: Literal["demo", "none", ""] = ""
    log_format: Literal["json", "text"] = "json"
    trusted_proxies: int = Field(default=0, ge=0, le=10)
    cors_origins: str = ""

    database_url: str = "sqlite:///var/jincai.db"
    read_database_url: str = ""
    database_pool_size: int = Field(default=16, ge=1, le=200)
    redis_url: str = ""
    media_url: str = ""

    secret_keys: str = DEV_SECRET_KEYS
    clock_offset_seconds: float = 0

    wechat_api_base: str = ""
    wechat_appid: str = ""
    wechat_secret: str = ""
    wechat_push_token: str = ""
    wechat_push_aes_key: str = ""
    wechat_template_progress: str = ""

    webhook_retry_seconds: str = "5,30,300,1800,7200,18000,36000,50400,72000,86400,86400"
    webhook_allow_cidrs: str = ""
    webhook_kept_days: int = Field(default=90, ge=1, le=3650)
    district_webhook_secret: str = ""
    district_kept_days: int = Field(default=90, ge=1, le=3650)
    district_numbers_hour: int = Field(default=9, ge=0, le=23)

    worker: Literal["embedded", "external"] = "embedded"
    worker_poll_seconds: float = Field(default=2.0, gt=0, le=60)
    job_lease_seconds: float = Field(default=60.0, gt=0, le=3600)

    rate_limit_caller: str = Field(default="1200/minute", pattern=_RATE)
    rate_limit_address: str = Field(default="2400/minute", pattern=_RATE)
    hazard_dispute_days: int = Field(default=7, ge=1, le=90)
    hazard_dispute_limit: int = Field(default=3, ge=1, le=100)
    check_in_max_km: int = Field(default=50, ge=1, le=20_000)
    media_daily_limit: int = Field(default=200, ge=1)

    @field_validator("database_url", "read_database_url")
    @classmethod
    def _known_engine(cls, value: str) -> str:
        if value and not value.startswith(("sqlite://", "postgresql://")):
            raise ValueError("must start with sqlite:// or postgresql://")
        return value

    @field_validator("secret_keys")
    @classmethod
    def _usable_keys(cls, value: str) -> str:
        Keyring(value)
        return value

    @field_validator("webhook_retry_seconds")
    @classmethod
    def _usable_schedule(cls, value: str) -> str:
        if not value or not all(0 < float(part) <= 604_800 for part in value.split(",")):
            raise ValueError("a comma list of seconds up to a week")
        return value

    @field_validator("webhook_allow_cidrs")
    @classmethod
    def _usable_networks(cls, value: str) -> str:
        for part in filter(None, value.split(",")):
            ip_network(part.strip())
        return value

    @property
    def webhook_waits(self) -> list[float]:
        """Seconds to wait after the first failed attempt, the second and so on; then the delivery is dead."""
        return [float(part) for part in self.webhook_retry_seconds.split(",")]

    @property
    def webhook_networks(self) -> list[IPv4Network | IPv6Network]:
        """Networks that webhooks may be sent to although they are not public: in development this machine."""
        if self.env == "dev" and not self.webhook_allow_cidrs:
            return [ip_network("127.0.0.0/8")]
        return [ip_network(part.strip()) for part in filter(None, self.webhook_allow_cidrs.split(","))]

    @field_validator("district_webhook_secret")
    @classmethod
    def _usable_secrets(cls, value: str) -> str:
        for secret in value.split():
            key_of(secret)
        return value

    @property
    def district_keys(self) -> list[bytes]:
        """What the district may sign with: several during a rotation, none when it is not connected."""
        fallback = DEV_WEBHOOK_SECRET if self.env == "dev" else ""
        return [key_of(secret) for secret in (self.district_webhook_secret or fallback).split()]

    @property
    def is_sqlite(self) -> bool:
        """Whether the embedded database is in use."""
        return self.database_url.startswith("sqlite")

    @property
    def seed_demo(self) -> bool:
        """Whether the demo community is wanted: by default in development only."""
        return self.seed == "demo" or (self.seed == "" and self.env == "dev")

    @property
    def media_location(self) -> str:
        """Where pictures are kept, as a URL."""
        return self.media_url or Path("var/media").absolute().as_uri()

    @property
    def sandbox_wechat(self) -> bool:
        """Whether WeChat is emulated in this process: development without WeChat settings."""
        return self.env == "dev" and not self.wechat_api_base and not self.wechat_appid

    @property
    def base_url(self) -> str:
        """The address that clients reach us at, without a trailing slash."""
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")

    def problems(self) -> list[str]:
        """One clear line for each setting that production must not start with."""
        return self._production_problems() if self.env == "prod" else []

    def _production_problems(self) -> list[str]:
        found = [f"JINCAI_{name.upper()} is not set" for name in _REQUIRED_IN_PROD if not getattr(self, name)]
        if Keyring(self.secret_keys).has_dev_key:
            found.append("JINCAI_SECRET_KEYS is the published development key")
        if self.wechat_api_base not in ("", WECHAT_API):
            found.append(f"JINCAI_WECHAT_API_BASE must be {WECHAT_API}")
        for name, known in _SANDBOX_VALUES.items():
            if getattr(self, name) == known:
                found.append(f"JINCAI_{name.upper()} is a published sandbox value")
        return found + self._unsafe_outside()

    def _unsafe_outside(self) -> list[str]:
        wrong = {
            "JINCAI_SEED must not be demo": self.seed == "demo",
            "JINCAI_CLOCK_OFFSET_SECONDS must be 0": self.clock_offset_seconds != 0,
            "JINCAI_PUBLIC_URL must start with https://": not self.public_url.startswith("https://"),
            "JINCAI_DISTRICT_WEBHOOK_SECRET is the published development secret": (
                DEV_WEBHOOK_SECRET in self.district_webhook_secret
            ),
            "JINCAI_WEBHOOK_ALLOW_CIDRS must not open private networks": any(
                not network.is_global for network in self.webhook_networks
            ),
        }
        return [sentence for sentence, is_wrong in wrong.items() if is_wrong]


_REQUIRED_IN_PROD = (
    "public_url",
    "wechat_appid",
    "wechat_secret",
    "wechat_push_token",
    "wechat_push_aes_key",
)
_SANDBOX_VALUES = {
    "wechat_appid": SANDBOX_APPID,
    "wechat_secret": SANDBOX_SECRET,
    "wechat_push_token": SANDBOX_PUSH_TOKEN,
    "wechat_push_aes_key": SANDBOX_PUSH_AES_KEY,
}

settings = Settings()
