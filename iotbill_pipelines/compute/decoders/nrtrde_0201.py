"""The grammar of nrtrde_0201.asn, generated: pycrate_asn1compile.py -i nrtrde_0201.asn."""

# ruff: noqa
# fmt: off
# mypy: ignore-errors


from pycrate_asn1rt.utils            import *
from pycrate_asn1rt.err              import *
from pycrate_asn1rt.glob             import make_GLOBAL, GLOBAL
from pycrate_asn1rt.dictobj          import ASN1Dict
from pycrate_asn1rt.refobj           import *
from pycrate_asn1rt.setobj           import *
from pycrate_asn1rt.asnobj_basic     import *
from pycrate_asn1rt.asnobj_str       import *
from pycrate_asn1rt.asnobj_construct import *
from pycrate_asn1rt.asnobj_class     import *
from pycrate_asn1rt.asnobj_ext       import *
from pycrate_asn1rt.init             import init_modules

class NRTRDE_0201:

    _name_  = 'NRTRDE-0201'
    _oid_   = []
    
    _obj_ = [
        'Nrtrde',
        'CallEventList',
        'CallEvent',
        'Moc',
        'Mtc',
        'Gprs',
        'ServiceCode',
        'AccessPointNameNI',
        'AccessPointNameOI',
        'BearerServiceCode',
        'CallEventDuration',
        'CallEventsCount',
        'CallEventStartTimeStamp',
        'CallingNumber',
        'CallReference',
        'CauseForTermination',
        'ChargeAmount',
        'ChargingId',
        'ConnectedNumber',
        'DataVolumeIncoming',
        'DataVolumeOutgoing',
        'DialledDigits',
        'FileAvailableTimeStamp',
        'GgsnAddress',
        'Imei',
        'Imsi',
        'RecEntityId',
        'Recipient',
        'ReleaseVersionNumber',
        'Sender',
        'SequenceNumber',
        'SgsnAddress',
        'SpecificationVersionNumber',
        'SupplementaryServiceCode',
        'TeleServiceCode',
        'ThirdPartyNumber',
        'UtcTimeOffset',
        'AsciiString',
        'BCDString',
        'HexString',
        'NumberString',
        ]
    _type_ = [
        'Nrtrde',
        'CallEventList',
        'CallEvent',
        'Moc',
        'Mtc',
        'Gprs',
        'ServiceCode',
        'AccessPointNameNI',
        'AccessPointNameOI',
        'BearerServiceCode',
        'CallEventDuration',
        'CallEventsCount',
        'CallEventStartTimeStamp',
        'CallingNumber',
        'CallReference',
        'CauseForTermination',
        'ChargeAmount',
        'ChargingId',
        'ConnectedNumber',
        'DataVolumeIncoming',
        'DataVolumeOutgoing',
        'DialledDigits',
        'FileAvailableTimeStamp',
        'GgsnAddress',
        'Imei',
        'Imsi',
        'RecEntityId',
        'Recipient',
        'ReleaseVersionNumber',
        'Sender',
        'SequenceNumber',
        'SgsnAddress',
        'SpecificationVersionNumber',
        'SupplementaryServiceCode',
        'TeleServiceCode',
        'ThirdPartyNumber',
        'UtcTimeOffset',
        'AsciiString',
        'BCDString',
        'HexString',
        'NumberString',
        ]
    _set_ = [
        ]
    _val_ = [
        ]
    _class_ = [
        ]
    _param_ = [
        ]
    
    #-----< Nrtrde >-----#
    Nrtrde = SEQ(name='Nrtrde', mode=MODE_TYPE, tag=(1, TAG_APPLICATION, TAG_IMPLICIT))
    _Nrtrde_specificationVersionNumber = INT(name='specificationVersionNumber', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'SpecificationVersionNumber')), opt=True)
    _Nrtrde_releaseVersionNumber = INT(name='releaseVersionNumber', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'ReleaseVersionNumber')), opt=True)
    _Nrtrde_sender = OCT_STR(name='sender', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'Sender')), opt=True)
    _Nrtrde_recipient = OCT_STR(name='recipient', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'Recipient')), opt=True)
    _Nrtrde_sequenceNumber = OCT_STR(name='sequenceNumber', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'SequenceNumber')), opt=True)
    _Nrtrde_fileAvailableTimeStamp = OCT_STR(name='fileAvailableTimeStamp', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'FileAvailableTimeStamp')), opt=True)
    _Nrtrde_utcTimeOffset = OCT_STR(name='utcTimeOffset', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'UtcTimeOffset')), opt=True)
    _Nrtrde_callEvents = SEQ_OF(name='callEvents', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'CallEventList')), opt=True)
    _Nrtrde_callEventsCount = INT(name='callEventsCount', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'CallEventsCount')), opt=True)
    Nrtrde._cont = ASN1Dict([
        ('specificationVersionNumber', _Nrtrde_specificationVersionNumber),
        ('releaseVersionNumber', _Nrtrde_releaseVersionNumber),
        ('sender', _Nrtrde_sender),
        ('recipient', _Nrtrde_recipient),
        ('sequenceNumber', _Nrtrde_sequenceNumber),
        ('fileAvailableTimeStamp', _Nrtrde_fileAvailableTimeStamp),
        ('utcTimeOffset', _Nrtrde_utcTimeOffset),
        ('callEvents', _Nrtrde_callEvents),
        ('callEventsCount', _Nrtrde_callEventsCount),
        ])
    Nrtrde._ext = []
    
    #-----< CallEventList >-----#
    CallEventList = SEQ_OF(name='CallEventList', mode=MODE_TYPE, tag=(2, TAG_APPLICATION, TAG_IMPLICIT))
    _CallEventList__item_ = CHOICE(name='_item_', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'CallEvent')))
    CallEventList._cont = _CallEventList__item_
    
    #-----< CallEvent >-----#
    CallEvent = CHOICE(name='CallEvent', mode=MODE_TYPE)
    _CallEvent_moc = SEQ(name='moc', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'Moc')))
    _CallEvent_mtc = SEQ(name='mtc', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'Mtc')))
    _CallEvent_gprs = SEQ(name='gprs', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'Gprs')))
    CallEvent._cont = ASN1Dict([
        ('moc', _CallEvent_moc),
        ('mtc', _CallEvent_mtc),
        ('gprs', _CallEvent_gprs),
        ])
    CallEvent._ext = []
    
    #-----< Moc >-----#
    Moc = SEQ(name='Moc', mode=MODE_TYPE, tag=(3, TAG_APPLICATION, TAG_IMPLICIT))
    _Moc_imsi = OCT_STR(name='imsi', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'Imsi')), opt=True)
    _Moc_imei = OCT_STR(name='imei', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'Imei')), opt=True)
    _Moc_callEventStartTimeStamp = OCT_STR(name='callEventStartTimeStamp', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'CallEventStartTimeStamp')), opt=True)
    _Moc_utcTimeOffset = OCT_STR(name='utcTimeOffset', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'UtcTimeOffset')), opt=True)
    _Moc_callEventDuration = INT(name='callEventDuration', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'CallEventDuration')), opt=True)
    _Moc_causeForTermination = INT(name='causeForTermination', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'CauseForTermination')), opt=True)
    _Moc_serviceCode = CHOICE(name='serviceCode', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'ServiceCode')), opt=True)
    _Moc_supplementaryServiceCode = OCT_STR(name='supplementaryServiceCode', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'SupplementaryServiceCode')), opt=True)
    _Moc_dialledDigits = OCT_STR(name='dialledDigits', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'DialledDigits')), opt=True)
    _Moc_connectedNumber = OCT_STR(name='connectedNumber', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'ConnectedNumber')), opt=True)
    _Moc_thirdPartyNumber = OCT_STR(name='thirdPartyNumber', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'ThirdPartyNumber')), opt=True)
    _Moc_recEntityId = OCT_STR(name='recEntityId', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'RecEntityId')), opt=True)
    _Moc_callReference = INT(name='callReference', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'CallReference')), opt=True)
    _Moc_chargeAmount = INT(name='chargeAmount', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'ChargeAmount')), opt=True)
    Moc._cont = ASN1Dict([
        ('imsi', _Moc_imsi),
        ('imei', _Moc_imei),
        ('callEventStartTimeStamp', _Moc_callEventStartTimeStamp),
        ('utcTimeOffset', _Moc_utcTimeOffset),
        ('callEventDuration', _Moc_callEventDuration),
        ('causeForTermination', _Moc_causeForTermination),
        ('serviceCode', _Moc_serviceCode),
        ('supplementaryServiceCode', _Moc_supplementaryServiceCode),
        ('dialledDigits', _Moc_dialledDigits),
        ('connectedNumber', _Moc_connectedNumber),
        ('thirdPartyNumber', _Moc_thirdPartyNumber),
        ('recEntityId', _Moc_recEntityId),
        ('callReference', _Moc_callReference),
        ('chargeAmount', _Moc_chargeAmount),
        ])
    Moc._ext = []
    
    #-----< Mtc >-----#
    Mtc = SEQ(name='Mtc', mode=MODE_TYPE, tag=(4, TAG_APPLICATION, TAG_IMPLICIT))
    _Mtc_imsi = OCT_STR(name='imsi', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'Imsi')), opt=True)
    _Mtc_imei = OCT_STR(name='imei', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'Imei')), opt=True)
    _Mtc_callEventStartTimeStamp = OCT_STR(name='callEventStartTimeStamp', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'CallEventStartTimeStamp')), opt=True)
    _Mtc_utcTimeOffset = OCT_STR(name='utcTimeOffset', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'UtcTimeOffset')), opt=True)
    _Mtc_callEventDuration = INT(name='callEventDuration', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'CallEventDuration')), opt=True)
    _Mtc_causeForTermination = INT(name='causeForTermination', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'CauseForTermination')), opt=True)
    _Mtc_serviceCode = CHOICE(name='serviceCode', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'ServiceCode')), opt=True)
    _Mtc_callingNumber = OCT_STR(name='callingNumber', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'CallingNumber')), opt=True)
    _Mtc_recEntityId = OCT_STR(name='recEntityId', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'RecEntityId')), opt=True)
    _Mtc_callReference = INT(name='callReference', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'CallReference')), opt=True)
    _Mtc_chargeAmount = INT(name='chargeAmount', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'ChargeAmount')), opt=True)
    Mtc._cont = ASN1Dict([
        ('imsi', _Mtc_imsi),
        ('imei', _Mtc_imei),
        ('callEventStartTimeStamp', _Mtc_callEventStartTimeStamp),
        ('utcTimeOffset', _Mtc_utcTimeOffset),
        ('callEventDuration', _Mtc_callEventDuration),
        ('causeForTermination', _Mtc_causeForTermination),
        ('serviceCode', _Mtc_serviceCode),
        ('callingNumber', _Mtc_callingNumber),
        ('recEntityId', _Mtc_recEntityId),
        ('callReference', _Mtc_callReference),
        ('chargeAmount', _Mtc_chargeAmount),
        ])
    Mtc._ext = []
    
    #-----< Gprs >-----#
    Gprs = SEQ(name='Gprs', mode=MODE_TYPE, tag=(5, TAG_APPLICATION, TAG_IMPLICIT))
    _Gprs_imsi = OCT_STR(name='imsi', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'Imsi')), opt=True)
    _Gprs_imei = OCT_STR(name='imei', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'Imei')), opt=True)
    _Gprs_callEventStartTimeStamp = OCT_STR(name='callEventStartTimeStamp', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'CallEventStartTimeStamp')), opt=True)
    _Gprs_utcTimeOffset = OCT_STR(name='utcTimeOffset', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'UtcTimeOffset')), opt=True)
    _Gprs_callEventDuration = INT(name='callEventDuration', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'CallEventDuration')), opt=True)
    _Gprs_causeForTermination = INT(name='causeForTermination', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'CauseForTermination')), opt=True)
    _Gprs_accessPointNameNI = OCT_STR(name='accessPointNameNI', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'AccessPointNameNI')), opt=True)
    _Gprs_accessPointNameOI = OCT_STR(name='accessPointNameOI', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'AccessPointNameOI')), opt=True)
    _Gprs_dataVolumeIncoming = INT(name='dataVolumeIncoming', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'DataVolumeIncoming')), opt=True)
    _Gprs_dataVolumeOutgoing = INT(name='dataVolumeOutgoing', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'DataVolumeOutgoing')), opt=True)
    _Gprs_sgsnAddress = OCT_STR(name='sgsnAddress', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'SgsnAddress')), opt=True)
    _Gprs_ggsnAddress = OCT_STR(name='ggsnAddress', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'GgsnAddress')), opt=True)
    _Gprs_chargingId = INT(name='chargingId', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'ChargingId')), opt=True)
    _Gprs_chargeAmount = INT(name='chargeAmount', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'ChargeAmount')), opt=True)
    Gprs._cont = ASN1Dict([
        ('imsi', _Gprs_imsi),
        ('imei', _Gprs_imei),
        ('callEventStartTimeStamp', _Gprs_callEventStartTimeStamp),
        ('utcTimeOffset', _Gprs_utcTimeOffset),
        ('callEventDuration', _Gprs_callEventDuration),
        ('causeForTermination', _Gprs_causeForTermination),
        ('accessPointNameNI', _Gprs_accessPointNameNI),
        ('accessPointNameOI', _Gprs_accessPointNameOI),
        ('dataVolumeIncoming', _Gprs_dataVolumeIncoming),
        ('dataVolumeOutgoing', _Gprs_dataVolumeOutgoing),
        ('sgsnAddress', _Gprs_sgsnAddress),
        ('ggsnAddress', _Gprs_ggsnAddress),
        ('chargingId', _Gprs_chargingId),
        ('chargeAmount', _Gprs_chargeAmount),
        ])
    Gprs._ext = []
    
    #-----< ServiceCode >-----#
    ServiceCode = CHOICE(name='ServiceCode', mode=MODE_TYPE, tag=(46, TAG_APPLICATION, TAG_IMPLICIT))
    _ServiceCode_teleServiceCode = OCT_STR(name='teleServiceCode', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'TeleServiceCode')))
    _ServiceCode_bearerServiceCode = OCT_STR(name='bearerServiceCode', mode=MODE_TYPE, typeref=ASN1RefType(('NRTRDE-0201', 'BearerServiceCode')))
    ServiceCode._cont = ASN1Dict([
        ('teleServiceCode', _ServiceCode_teleServiceCode),
        ('bearerServiceCode', _ServiceCode_bearerServiceCode),
        ])
    ServiceCode._ext = []
    
    #-----< AccessPointNameNI >-----#
    AccessPointNameNI = OCT_STR(name='AccessPointNameNI', mode=MODE_TYPE, tag=(16, TAG_APPLICATION, TAG_IMPLICIT), typeref=ASN1RefType(('NRTRDE-0201', 'AsciiString')))
    
    #-----< AccessPointNameOI >-----#
    AccessPointNameOI = OCT_STR(name='AccessPointNameOI', mode=MODE_TYPE, tag=(17, TAG_APPLICATION, TAG_IMPLICIT), typeref=ASN1RefType(('NRTRDE-0201', 'AsciiString')))
    
    #-----< BearerServiceCode >-----#
    BearerServiceCode = OCT_STR(name='BearerServiceCode', mode=MODE_TYPE, tag=(18, TAG_APPLICATION, TAG_IMPLICIT), typeref=ASN1RefType(('NRTRDE-0201', 'HexString')))
    
    #-----< CallEventDuration >-----#
    CallEventDuration = INT(name='CallEventDuration', mode=MODE_TYPE, tag=(19, TAG_APPLICATION, TAG_IMPLICIT))
    
    #-----< CallEventsCount >-----#
    CallEventsCount = INT(name='CallEventsCount', mode=MODE_TYPE, tag=(20, TAG_APPLICATION, TAG_IMPLICIT))
    
    #-----< CallEventStartTimeStamp >-----#
    CallEventStartTimeStamp = OCT_STR(name='CallEventStartTimeStamp', mode=MODE_TYPE, tag=(21, TAG_APPLICATION, TAG_IMPLICIT), typeref=ASN1RefType(('NRTRDE-0201', 'NumberString')))
    
    #-----< CallingNumber >-----#
    CallingNumber = OCT_STR(name='CallingNumber', mode=MODE_TYPE, tag=(22, TAG_APPLICATION, TAG_IMPLICIT), typeref=ASN1RefType(('NRTRDE-0201', 'NumberString')))
    
    #-----< CallReference >-----#
    CallReference = INT(name='CallReference', mode=MODE_TYPE, tag=(23, TAG_APPLICATION, TAG_IMPLICIT))
    
    #-----< CauseForTermination >-----#
    CauseForTermination = INT(name='CauseForTermination', mode=MODE_TYPE, tag=(24, TAG_APPLICATION, TAG_IMPLICIT))
    
    #-----< ChargeAmount >-----#
    ChargeAmount = INT(name='ChargeAmount', mode=MODE_TYPE, tag=(25, TAG_APPLICATION, TAG_IMPLICIT))
    
    #-----< ChargingId >-----#
    ChargingId = INT(name='ChargingId', mode=MODE_TYPE, tag=(26, TAG_APPLICATION, TAG_IMPLICIT))
    
    #-----< ConnectedNumber >-----#
    ConnectedNumber = OCT_STR(name='ConnectedNumber', mode=MODE_TYPE, tag=(27, TAG_APPLICATION, TAG_IMPLICIT), typeref=ASN1RefType(('NRTRDE-0201', 'NumberString')))
    
    #-----< DataVolumeIncoming >-----#
    DataVolumeIncoming = INT(name='DataVolumeIncoming', mode=MODE_TYPE, tag=(28, TAG_APPLICATION, TAG_IMPLICIT))
    
    #-----< DataVolumeOutgoing >-----#
    DataVolumeOutgoing = INT(name='DataVolumeOutgoing', mode=MODE_TYPE, tag=(29, TAG_APPLICATION, TAG_IMPLICIT))
    
    #-----< DialledDigits >-----#
    DialledDigits = OCT_STR(name='DialledDigits', mode=MODE_TYPE, tag=(30, TAG_APPLICATION, TAG_IMPLICIT), typeref=ASN1RefType(('NRTRDE-0201', 'AsciiString')))
    
    #-----< FileAvailableTimeStamp >-----#
    FileAvailableTimeStamp = OCT_STR(name='FileAvailableTimeStamp', mode=MODE_TYPE, tag=(31, TAG_APPLICATION, TAG_IMPLICIT), typeref=ASN1RefType(('NRTRDE-0201', 'NumberString')))
    
    #-----< GgsnAddress >-----#
    GgsnAddress = OCT_STR(name='GgsnAddress', mode=MODE_TYPE, tag=(32, TAG_APPLICATION, TAG_IMPLICIT), typeref=ASN1RefType(('NRTRDE-0201', 'AsciiString')))
    
    #-----< Imei >-----#
    Imei = OCT_STR(name='Imei', mode=MODE_TYPE, tag=(33, TAG_APPLICATION, TAG_IMPLICIT), typeref=ASN1RefType(('NRTRDE-0201', 'BCDString')))
    
    #-----< Imsi >-----#
    Imsi = OCT_STR(name='Imsi', mode=MODE_TYPE, tag=(34, TAG_APPLICATION, TAG_IMPLICIT), typeref=ASN1RefType(('NRTRDE-0201', 'BCDString')))
    
    #-----< RecEntityId >-----#
    RecEntityId = OCT_STR(name='RecEntityId', mode=MODE_TYPE, tag=(35, TAG_APPLICATION, TAG_IMPLICIT), typeref=ASN1RefType(('NRTRDE-0201', 'AsciiString')))
    
    #-----< Recipient >-----#
    Recipient = OCT_STR(name='Recipient', mode=MODE_TYPE, tag=(36, TAG_APPLICATION, TAG_IMPLICIT), typeref=ASN1RefType(('NRTRDE-0201', 'AsciiString')))
    
    #-----< ReleaseVersionNumber >-----#
    ReleaseVersionNumber = INT(name='ReleaseVersionNumber', mode=MODE_TYPE, tag=(37, TAG_APPLICATION, TAG_IMPLICIT))
    
    #-----< Sender >-----#
    Sender = OCT_STR(name='Sender', mode=MODE_TYPE, tag=(38, TAG_APPLICATION, TAG_IMPLICIT), typeref=ASN1RefType(('NRTRDE-0201', 'AsciiString')))
    
    #-----< SequenceNumber >-----#
    SequenceNumber = OCT_STR(name='SequenceNumber', mode=MODE_TYPE, tag=(39, TAG_APPLICATION, TAG_IMPLICIT), typeref=ASN1RefType(('NRTRDE-0201', 'NumberString')))
    
    #-----< SgsnAddress >-----#
    SgsnAddress = OCT_STR(name='SgsnAddress', mode=MODE_TYPE, tag=(40, TAG_APPLICATION, TAG_IMPLICIT), typeref=ASN1RefType(('NRTRDE-0201', 'AsciiString')))
    
    #-----< SpecificationVersionNumber >-----#
    SpecificationVersionNumber = INT(name='SpecificationVersionNumber', mode=MODE_TYPE, tag=(41, TAG_APPLICATION, TAG_IMPLICIT))
    
    #-----< SupplementaryServiceCode >-----#
    SupplementaryServiceCode = OCT_STR(name='SupplementaryServiceCode', mode=MODE_TYPE, tag=(42, TAG_APPLICATION, TAG_IMPLICIT), typeref=ASN1RefType(('NRTRDE-0201', 'HexString')))
    
    #-----< TeleServiceCode >-----#
    TeleServiceCode = OCT_STR(name='TeleServiceCode', mode=MODE_TYPE, tag=(43, TAG_APPLICATION, TAG_IMPLICIT), typeref=ASN1RefType(('NRTRDE-0201', 'HexString')))
    
    #-----< ThirdPartyNumber >-----#
    ThirdPartyNumber = OCT_STR(name='ThirdPartyNumber', mode=MODE_TYPE, tag=(44, TAG_APPLICATION, TAG_IMPLICIT), typeref=ASN1RefType(('NRTRDE-0201', 'NumberString')))
    
    #-----< UtcTimeOffset >-----#
    UtcTimeOffset = OCT_STR(name='UtcTimeOffset', mode=MODE_TYPE, tag=(45, TAG_APPLICATION, TAG_IMPLICIT), typeref=ASN1RefType(('NRTRDE-0201', 'AsciiString')))
    
    #-----< AsciiString >-----#
    AsciiString = OCT_STR(name='AsciiString', mode=MODE_TYPE)
    
    #-----< BCDString >-----#
    BCDString = OCT_STR(name='BCDString', mode=MODE_TYPE)
    
    #-----< HexString >-----#
    HexString = OCT_STR(name='HexString', mode=MODE_TYPE)
    
    #-----< NumberString >-----#
    NumberString = OCT_STR(name='NumberString', mode=MODE_TYPE)
    
    _all_ = [
        _Nrtrde_specificationVersionNumber,
        _Nrtrde_releaseVersionNumber,
        _Nrtrde_sender,
        _Nrtrde_recipient,
        _Nrtrde_sequenceNumber,
        _Nrtrde_fileAvailableTimeStamp,
        _Nrtrde_utcTimeOffset,
        _Nrtrde_callEvents,
        _Nrtrde_callEventsCount,
        Nrtrde,
        _CallEventList__item_,
        CallEventList,
        _CallEvent_moc,
        _CallEvent_mtc,
        _CallEvent_gprs,
        CallEvent,
        _Moc_imsi,
        _Moc_imei,
        _Moc_callEventStartTimeStamp,
        _Moc_utcTimeOffset,
        _Moc_callEventDuration,
        _Moc_causeForTermination,
        _Moc_serviceCode,
        _Moc_supplementaryServiceCode,
        _Moc_dialledDigits,
        _Moc_connectedNumber,
        _Moc_thirdPartyNumber,
        _Moc_recEntityId,
        _Moc_callReference,
        _Moc_chargeAmount,
        Moc,
        _Mtc_imsi,
        _Mtc_imei,
        _Mtc_callEventStartTimeStamp,
        _Mtc_utcTimeOffset,
        _Mtc_callEventDuration,
        _Mtc_causeForTermination,
        _Mtc_serviceCode,
        _Mtc_callingNumber,
        _Mtc_recEntityId,
        _Mtc_callReference,
        _Mtc_chargeAmount,
        Mtc,
        _Gprs_imsi,
        _Gprs_imei,
        _Gprs_callEventStartTimeStamp,
        _Gprs_utcTimeOffset,
        _Gprs_callEventDuration,
        _Gprs_causeForTermination,
        _Gprs_accessPointNameNI,
        _Gprs_accessPointNameOI,
        _Gprs_dataVolumeIncoming,
        _Gprs_dataVolumeOutgoing,
        _Gprs_sgsnAddress,
        _Gprs_ggsnAddress,
        _Gprs_chargingId,
        _Gprs_chargeAmount,
        Gprs,
        _ServiceCode_teleServiceCode,
        _ServiceCode_bearerServiceCode,
        ServiceCode,
        AccessPointNameNI,
        AccessPointNameOI,
        BearerServiceCode,
        CallEventDuration,
        CallEventsCount,
        CallEventStartTimeStamp,
        CallingNumber,
        CallReference,
        CauseForTermination,
        ChargeAmount,
        ChargingId,
        ConnectedNumber,
        DataVolumeIncoming,
        DataVolumeOutgoing,
        DialledDigits,
        FileAvailableTimeStamp,
        GgsnAddress,
        Imei,
        Imsi,
        RecEntityId,
        Recipient,
        ReleaseVersionNumber,
        Sender,
        SequenceNumber,
        SgsnAddress,
        SpecificationVersionNumber,
        SupplementaryServiceCode,
        TeleServiceCode,
        ThirdPartyNumber,
        UtcTimeOffset,
        AsciiString,
        BCDString,
        HexString,
        NumberString,
    ]

init_modules(NRTRDE_0201)
